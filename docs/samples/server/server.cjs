const { readFile } = require("node:fs/promises");
const { createServer } = require("node:http");

const page = '<!doctype html><meta charset="utf-8"><title>shop</title><body><script type="module" src="/app.js"></script>';

createServer(async (request, response) => {
  if (request.url === "/api/cart") return response.end("2 items");
  if (request.url === "/app.js") {
    response.setHeader("Content-Type", "text/javascript");
    return response.end(await readFile("dist/app.js"));
  }
  response.setHeader("Content-Type", "text/html");
  response.end(page);
}).listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
