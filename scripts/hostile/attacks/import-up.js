// Imports what lies above the root.
// stopped by: load
import secret from "../secret.js";
export default secret;
