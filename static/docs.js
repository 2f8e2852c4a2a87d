// Puts the API document on the docs page, in the reader's colours.
const dark = matchMedia("(prefers-color-scheme: dark)");
const doc = document.createElement("rapi-doc");
const settings = {
  "spec-url": "/openapi.json",
  "render-style": "read",
  "load-fonts": "false",
  "regular-font": "system-ui, sans-serif",
  "mono-font": "ui-monospace, monospace",
  "primary-color": "#2563eb",
  "schema-style": "table",
  "default-schema-tab": "schema",
  "show-header": "false",
  "allow-server-selection": "false",
  "allow-spec-url-load": "false",
  "allow-spec-file-load": "false",
  "use-path-in-nav-bar": "true",
  "nav-item-spacing": "compact",
  "show-method-in-nav-bar": "as-colored-text",
  "sort-endpoints-by": "none",
  "persist-auth": "false",
};
for (const [name, value] of Object.entries(settings)) doc.setAttribute(name, value);
const paint = () => doc.setAttribute("theme", dark.matches ? "dark" : "light");
dark.addEventListener("change", paint);
paint();
document.body.append(doc);
