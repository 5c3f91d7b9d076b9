// esbuild takes plugins from a script only.
import { build } from "esbuild";
import { define, esbuildPlugin } from "@spanhook/bundler";
import { entry, options, outdir } from "./settings.mjs";

await build({
  entryPoints: [entry],
  outdir,
  bundle: true,
  splitting: true,
  format: "esm",
  minify: true,
  sourcemap: true,
  loader: { ".svg": "file" },
  define: define(),
  logLevel: "info",
  plugins: [esbuildPlugin(options)],
}).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
