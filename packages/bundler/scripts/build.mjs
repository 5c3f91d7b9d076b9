// Compiles src/ twice: ES modules to dist/, CommonJS to dist/cjs/ for configs that still use require().
import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";

const tsc = (...args) => execFileSync(process.execPath, ["node_modules/typescript/bin/tsc", ...args], { stdio: "inherit" });

// Nothing of an earlier run may be tested or packed.
for (const folder of ["dist", "build"]) rmSync(folder, { recursive: true, force: true });
tsc();
tsc("--module", "commonjs", "--moduleResolution", "bundler", "--outDir", "dist/cjs");
writeFileSync("dist/cjs/package.json", '{ "type": "commonjs" }\n');
