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

// The renderer is made for wide windows: on a phone its table of problems becomes a list, and nothing hangs out.
const narrow = new CSSStyleSheet();
narrow.replaceSync(`@media (max-width: 599px) {
  .section-gap, .section-gap--read-mode { padding: 0 12px; }
  #api-info { margin-left: 0; }
  #api-description { overflow-wrap: anywhere; }
  #api-description :is(table, tbody) { display: block; width: auto; margin: 0; }
  #api-description thead { display: none; }
  #api-description tr { display: grid; grid-template-columns: 1fr auto; }
  #api-description td { border: 0; padding: 8px; }
  #api-description td:last-child { grid-column: 1 / -1; padding-top: 0; }
}`);
doc.shadowRoot?.adoptedStyleSheets.push(narrow);
