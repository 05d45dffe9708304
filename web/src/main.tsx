import { render } from "preact";
import { App } from "./frame/app";
import "./frame/theme.css";
import "./frame/frame.css";

render(<App />, document.getElementById("page")!);
