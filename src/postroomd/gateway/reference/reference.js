// Shows the API of the gateway that serves this page.
// The key stays in memory: it is gone once the page is closed or reloaded.
"use strict";

window.reference = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: false,
  queryConfigEnabled: false,
  syntaxHighlight: { theme: "agate" },
  tryItOutEnabled: true,
  validatorUrl: null,
});
