// Runs before the first paint, so that a remembered theme does not flash. Everything else is in main.js.
try {
  const theme = localStorage.getItem('mailroom.theme');
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
} catch {
  // Storage is blocked: the system's colours it is.
}
