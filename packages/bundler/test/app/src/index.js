import logo from "./logo.svg";
import "./style.css";
import { greet } from "./greet.js";

document.body.textContent = `${greet("build")} ${logo} ${__BUILD_ID__}`;
import("./lazy.js").then(({ numbers }) => console.log(numbers));
