/** Why the rows of a table are an estimate. */
export type Uncounted = 'large' | 'name' | 'rewritten' | 'locked' | 'late' | 'refused';

const TEXTS: Readonly<Record<Uncounted, string>> = {
  large: 'above 1 GiB',
  name: 'with a name that is not UTF-8',
  rewritten: 'rewritten while the snapshot was made',
  locked: 'locked when the snapshot was made',
  late: 'for which no time was left when the snapshot was made',
  refused: 'that the server refused to count when the snapshot was made',
};

/**
 * Returns why a table was not counted, as text that follows `a table`: `above 1 GiB`. Snapshots of older agents have no
 * reason.
 */
export function uncountedText({ uncounted }: { uncounted?: Uncounted }): string {
  return uncounted === undefined ? 'not counted when the snapshot was made' : TEXTS[uncounted];
}

/** Marks the count of a table as an estimate. Keeps an earlier reason. */
export function markUncounted(table: { exact: boolean; uncounted?: Uncounted }, why: Uncounted): void {
  if (table.exact) table.uncounted = why;
  table.exact = false;
}
