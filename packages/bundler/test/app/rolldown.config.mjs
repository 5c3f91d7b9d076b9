import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { rollupPlugin } from "@spanhook/bundler/rollup";
import { entry, options, outdir } from "./settings.mjs";

const assets = {
  name: "assets",
  load(id) {
    if (!/\.(svg|css)$/.test(id)) return null;
    const file = this.emitFile({ type: "asset", name: basename(id), source: readFileSync(id) });
    return { code: `export default import.meta.ROLLUP_FILE_URL_${file};`, moduleType: "js" };
  },
};

export default {
  input: entry,
  output: { dir: outdir, sourcemap: true },
  plugins: [assets, rollupPlugin(options)],
};
