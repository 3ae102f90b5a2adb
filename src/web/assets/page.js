/* Light, dark, or as the system: remembered in this browser. In the head, so that nothing flashes. */
(() => {
  const names = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const order = Object.keys(names);
  let theme = "auto";
  try {
    theme = localStorage.getItem("service-connectors-theme") ?? "auto";
  } catch {
    // A browser that stores nothing: as the system.
  }
  const show = () => {
    if (!(theme in names)) theme = "auto";
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    button.ariaLabel = button.title = names[theme];
    button.hidden = false;
  };
  show();
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme")?.addEventListener("click", () => {
      theme = order[(order.indexOf(theme) + 1) % order.length];
      try {
        localStorage.setItem("service-connectors-theme", theme);
      } catch {
        // It holds until the next page.
      }
      show();
    });
  });
})();
