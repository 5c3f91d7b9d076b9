import { define, vitePlugin } from "@spanhook/bundler";
import { entry, options, outdir } from "./settings.mjs";

export default {
  root: import.meta.dirname,
  define: define(),
  build: { outDir: outdir, emptyOutDir: true, sourcemap: true, assetsInlineLimit: 0, rolldownOptions: { input: entry } },
  plugins: [vitePlugin(options)],
};
