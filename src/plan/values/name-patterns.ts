import picomatch from 'picomatch';

/** Returns whether a word of the command line means several names: `web.*`. No name of a source looks like this. */
export function isPattern(word: string): boolean {
  return /[*?[\]{}]/.test(word);
}

/** Longest pattern. The time of a match grows with it. */
const MAX_LENGTH = 100;
/** Most wildcards of a pattern. A regular expression backtracks to each of them. */
const MAX_STARS = 4;

/**
 * Selects names by words of the command line: names, and patterns with `*`, `?`, `[a-z]` and `{a,b}`.
 *
 * @returns the selected names in their order, and the words that select none
 */
export function selectNames(
  words: readonly string[],
  names: readonly string[],
): { selected: string[]; unmatched: string[] } {
  const unmatched: string[] = [];
  const selected = new Set<string>();
  for (const word of words) {
    const matches = matcher(word);
    const found = names.filter(matches);
    if (found.length === 0) unmatched.push(word);
    for (const name of found) selected.add(name);
  }
  return { selected: names.filter((name) => selected.has(name)), unmatched };
}

function matcher(word: string): (name: string) => boolean {
  const isSafe = word.length <= MAX_LENGTH && (word.match(/\*/g) ?? []).length <= MAX_STARS;
  if (!isPattern(word) || !isSafe) return (name) => name === word;
  const matches = picomatch(word, { dot: true, nonegate: true, noextglob: true, windows: false });
  return (name) => matches(name);
}
