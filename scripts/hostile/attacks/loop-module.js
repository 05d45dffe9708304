// The module never finishes.
// stopped by: load
for (;;);
export default { api: 1, hooks() { return {}; } };
