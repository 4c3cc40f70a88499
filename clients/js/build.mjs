// Makes dist/ from src/: one file each for `import`, for `require` and for a script tag, and their types.
import { execFileSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

process.chdir(import.meta.dirname ?? new URL(".", import.meta.url).pathname);
rmSync("dist", { recursive: true, force: true });
execFileSync("node_modules/.bin/tsc", ["--project", "."], { stdio: "inherit" });

// What is only for the inside is in no type that others see.
for (const file of readdirSync("dist").filter((file) => !/^(connect|index|types)\./.test(file))) rmSync(`dist/${file}`);
for (const name of ["connect", "index", "types"]) {
  const types = readFileSync(`dist/${name}.d.ts`, "utf8");
  writeFileSync(`dist/${name}.d.cts`, types.replaceAll('.js"', '.cjs"').replaceAll(".js'", ".cjs'"));
}

const shared = { entryPoints: ["src/index.ts"], bundle: true, target: "es2022", charset: "utf8" };
await build({ ...shared, format: "esm", outfile: "dist/index.js" });
await build({ ...shared, format: "cjs", outfile: "dist/index.cjs" });
await build({
  ...shared,
  entryPoints: ["src/script.ts"],
  format: "iife",
  minify: true,
  outfile: "dist/outboxd.min.js",
});
