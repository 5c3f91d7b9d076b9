// A user's configurations: this file only has to compile.
import type { Configuration as RspackConfiguration } from "@rspack/core";
import { type BuildEvent, type Options, define, esbuildPlugin, reduce, rollupPlugin, rspackPlugin, vitePlugin, webpackPlugin } from "@spanhook/bundler";
import { vitePlugin as bySubpath } from "@spanhook/bundler/vite";
import type { BuildOptions, Metafile } from "esbuild";
import type { RolldownOptions } from "rolldown";
import type { RollupOptions } from "rollup";
import type { UserConfig } from "vite";
import webpack from "webpack";

const options: Options = { endpoint: "https://spanhook.example.com", strict: true, timeoutMs: 1000 };

export const forWebpack: webpack.Configuration = { plugins: [new webpack.DefinePlugin(define()), webpackPlugin(options)] };
export const forRspack: RspackConfiguration = { plugins: [rspackPlugin(options)] };
export const forVite: UserConfig = { define: define(), plugins: [vitePlugin(), bySubpath(options)] };
export const forRollup: RollupOptions = { plugins: [rollupPlugin(options)] };
export const forRolldown: RolldownOptions = { plugins: [rollupPlugin(options)] };
export const forEsbuild: BuildOptions = { define: define(), plugins: [esbuildPlugin(options)] };

export function sizes(stats: webpack.StatsCompilation, metafile: Metafile): (number | undefined)[] {
  return [reduce(stats, "webpack").metrics.total_asset_size_bytes, reduce(metafile, "esbuild").metrics.asset_count];
}

export const status = (event: BuildEvent): "success" | "failed" => event.job_status;

// @ts-expect-error: a misspelt option is found
webpackPlugin({ endPoint: "x" });
