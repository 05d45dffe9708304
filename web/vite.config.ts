import { defineConfig } from "vite";

declare const process: { env: { [name: string]: string | undefined } };

// The pages are embedded in the program and served below /ui/ (web.go). Whoever works on them
// runs `npx vite` beside a server on its usual address.
export default defineConfig({
  base: "/ui/",
  build: {
    target: "es2022",
    outDir: process.env["ROUNDHOUSE_WEB_OUT"] ?? "dist",
    emptyOutDir: true,
    modulePreload: { polyfill: false }, // it would be an inline script, which the policy forbids
    assetsInlineLimit: 0, // likewise: data of scripts
    sourcemap: false,
    reportCompressedSize: false,
  },
  worker: { format: "es" },
  server: { proxy: { "/v1": target(), "/roundhouse": target(), "/health": target() } },
});

/** Where the server is, for pages that vite serves. */
function target() {
  return { target: process.env["ROUNDHOUSE_URL"] ?? "http://127.0.0.1:8480", ws: true };
}
