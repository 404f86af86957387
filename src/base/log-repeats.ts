/** The time for which a line that says nothing new is left out, milliseconds. */
const QUIET_MS = 60 * 60_000;
/** Subjects that are remembered. */
const MAX_SUBJECTS = 1_000;

/** Fields that say what a line is about. A line without them is about its message. */
const SUBJECTS = ['source', 'subject', 'container', 'copy', 'listener', 'name', 'topic'] as const;

/** Finds lines that say again what the last line about the same subject said. */
interface Repeats {
  /**
   * Notes a line. Returns undefined if it is to be left out, otherwise the number of equal lines that were left out
   * before it.
   */
  note(level: string, message: string, fields: Record<string, unknown>): number | undefined;
}

/**
 * Creates the memory of repeated lines. A line counts as new if anything in it differs from the last line about its
 * subject, so what begins, ends and begins again is three lines.
 *
 * @param now milliseconds, by a clock that nobody sets
 */
export function createRepeats(now: () => number): Repeats {
  const last = new Map<string, { line: string; at: number; left: number }>();
  return {
    note(level, message, fields) {
      const subject = SUBJECTS.flatMap((name) => (fields[name] === undefined ? [] : [[name, fields[name]]]));
      const key = JSON.stringify(subject.length > 0 ? subject : message);
      const line = JSON.stringify([level, message, fields]);
      const before = last.get(key);
      if (before?.line === line && now() - before.at < QUIET_MS) {
        before.left++;
        return undefined;
      }
      last.delete(key);
      last.set(key, { line, at: now(), left: 0 });
      const [oldest] = last.keys();
      if (last.size > MAX_SUBJECTS && oldest !== undefined) last.delete(oldest);
      return before?.line === line ? before.left : 0;
    },
  };
}
