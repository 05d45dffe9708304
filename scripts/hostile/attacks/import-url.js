// Imports from the network.
// stopped by: load
import x from "https://example.com/x.js";
export default x;
