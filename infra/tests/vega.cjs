// Runs a Vega specification that has its data in it, from stdin: the data sets that are named, what Vega
// complains of, and the picture, as JSON.
const fs = require("fs");
const vega = require("vega");

const problems = [];
const logger = vega.logger(vega.Warn);
for (const level of ["error", "warn"]) {
  logger[level] = (...text) => {
    problems.push(text.join(" "));
    return logger;
  };
}
const view = new vega.View(vega.parse(JSON.parse(fs.readFileSync(0, "utf8"))), { renderer: "none", logger });
view.toSVG().then((svg) => {
  const data = Object.fromEntries(process.argv.slice(2).map((name) => [name, view.data(name)]));
  console.log(JSON.stringify({ data, problems, svg }));
});
