import { build } from "esbuild";

// webpack: new DefinePlugin(…) of the same object; Vite: `define`. Or define() of @spanhook/bundler.
const define = {
  __BUILD_ID__: JSON.stringify(process.env.CORRELATION_ID ?? "local"),
  __APP_VERSION__: JSON.stringify(process.env.APP_VERSION ?? "0.0.0"),
  __OTLP_TRACES__: JSON.stringify(process.env.OTLP_TRACES ?? "http://127.0.0.1:4318/v1/traces"),
};

await build({ entryPoints: ["browser/app.js"], bundle: true, minify: true, format: "esm", outfile: "dist/app.js", define });
