// What the tests vary, the same for each bundler's configuration.
export const entry = new URL(`src/${process.env.TEST_ENTRY ?? "index.js"}`, import.meta.url).pathname;
export const outdir = process.env.TEST_OUTDIR;
export const options = JSON.parse(process.env.TEST_OPTIONS ?? "{}");
