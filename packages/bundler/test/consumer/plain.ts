import { define, esbuildPlugin, reduce, rollupPlugin, rspackPlugin, vitePlugin, webpackPlugin } from "@spanhook/bundler";

export default [define, esbuildPlugin, reduce, rollupPlugin, rspackPlugin, vitePlugin, webpackPlugin];
