import bundler = require("@spanhook/bundler");
import webpack = require("@spanhook/bundler/webpack");

export = { plugins: [bundler.webpackPlugin(), webpack.webpackPlugin({ watch: true })] };
