import { nothing } from "./is-not-there.js";

console.log(nothing);
