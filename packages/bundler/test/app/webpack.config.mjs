import webpack from "webpack";
import { define, webpackPlugin } from "@spanhook/bundler";
import { entry, options, outdir } from "./settings.mjs";

const config = {
  mode: "production",
  devtool: "source-map",
  entry: { main: entry },
  output: { path: outdir, filename: "[name].[contenthash].js" },
  experiments: { css: true },
  module: {
    rules: [
      { test: /\.svg$/, type: "asset/resource" },
      { test: /\.css$/, type: "css", sideEffects: true },
    ],
  },
  bail: process.env.TEST_BAIL === "true",
  plugins: [new webpack.DefinePlugin(define()), webpackPlugin(options)],
};

export default process.env.TEST_MULTI
  ? ["modern", "legacy"].map((name) => ({ ...config, name, output: { ...config.output, path: `${outdir}/${name}` }, plugins: [webpackPlugin(options)] }))
  : config;
