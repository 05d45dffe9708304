// Imports while it runs.
// stopped by: load, exception, start, misuse
export default { api: 1, hooks() { return { logits() { return import("./" + "x"); } }; } };
