// Imports a data URL.
// stopped by: load
import x from "data:text/javascript,export default 1";
export default x;
