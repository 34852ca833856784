// Sets the theme before the first paint, so that a dark room stays dark. Not a module: it must run at once.
(function () {
  try {
    var theme = JSON.parse(localStorage.getItem('noria.theme') || '"system"');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch (_error) { /* A browser without storage follows the system. */ }
})();
