import "./telemetry.js";

const answer = await fetch("/api/cart");
document.body.textContent = await answer.text();
