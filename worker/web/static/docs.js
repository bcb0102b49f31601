// Swagger UI, dark as the other pages, for the description that this process serves; it asks no foreign validator.
document.documentElement.classList.add("dark-mode");
SwaggerUIBundle({ url: "/openapi.json", dom_id: "#swagger", validatorUrl: null });
