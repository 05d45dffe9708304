// Imports by an absolute path.
// stopped by: load
import passwd from "/etc/passwd.json";
export default passwd;
