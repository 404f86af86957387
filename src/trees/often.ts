const PROGRESS_MS = 250;

/** Returns a counter of files that reports progress a few times a second. */
export function often(tell: (progress: { done: number; files: number }) => void): () => void {
  let files = 0;
  let toldAt = Number.NEGATIVE_INFINITY;
  return () => {
    files++;
    // Independent of the clock: one that is set back would hold progress back until the run counts as stalled.
    if (performance.now() - toldAt < PROGRESS_MS) return;
    toldAt = performance.now();
    tell({ done: 0, files });
  };
}
