// Imports a package.
// stopped by: load
import fs from "node:fs";
export default fs;
