// Requires a file.
// stopped by: load, start, exception
const fs = require("fs");
export default fs;
