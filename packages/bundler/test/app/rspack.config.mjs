import { rspack } from "@rspack/core";
import { define } from "@spanhook/bundler";
import { rspackPlugin } from "@spanhook/bundler/rspack";
import { entry, options, outdir } from "./settings.mjs";

export default {
  mode: "production",
  devtool: "source-map",
  entry: { main: entry },
  output: { path: outdir },
  module: {
    rules: [
      { test: /\.svg$/, type: "asset/resource" },
      { test: /\.css$/, type: "css", sideEffects: true },
    ],
  },
  stats: { preset: "normal", assets: true },
  bail: process.env.TEST_BAIL === "true",
  plugins: [new rspack.DefinePlugin(define()), rspackPlugin(options)],
};
