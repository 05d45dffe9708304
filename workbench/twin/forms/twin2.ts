import { script } from "roundhouse";
import { twin } from "./twin";

export default script({ api: 1, lag: 2, hooks: twin });
