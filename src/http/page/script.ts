/**
 * The only script: while a run is in progress, it shows the progress without reloading the page. It writes text, never
 * markup. It loads the page again when the run ends, or is not the one that the page shows. Without it, the page
 * reloads itself. The security policy names its hash.
 */
export const SCRIPT = `
(() => {
  const box = document.getElementById('run');
  if (!box || !window.EventSource) return;
  const events = new EventSource('/api/events');
  const again = () => { events.close(); location.reload(); };
  const text = (id, value) => { const at = document.getElementById(id); if (at && at.textContent !== value) at.textContent = value; };
  events.addEventListener('progress', (event) => {
    const { id, lines } = JSON.parse(event.data);
    if (id !== box.dataset.run || lines.length !== box.querySelectorAll('progress').length) { again(); return; }
    lines.forEach(({ text: line, done, total }, i) => {
      text('run-' + i, line);
      const bar = document.getElementById('bar-' + i);
      if (!bar) return;
      if (total > 0) { bar.max = total; bar.value = Math.min(done, total); } else bar.removeAttribute('value');
    });
  });
  events.addEventListener('end', again);
})();
`;
