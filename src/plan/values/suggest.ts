/** Removes case, separators and plurals: `lifeboat.Exclude_Databases` and `lifeboat.exclude-database` become equal. */
function squash(word: string): string {
  return word
    .toLowerCase()
    .split(/[^a-z0-9]+/)
    .map((part) => part.replace(/s+$/, ''))
    .join('');
}

/** Returns the number of insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`. */
export function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, i) => i)];
  for (let i = 1; i <= a.length; i++) {
    const [row, above] = [[i], rows[i - 1]!];
    for (let j = 1; j <= b.length; j++) {
      const replaced = above[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? rows[i - 2]![j - 2]! + 1 : replaced;
      row.push(Math.min(replaced, swapped, above[j]! + 1, row[j - 1]! + 1));
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}

const PREFIX = 'lifeboat';
/** The most characters of the prefix that may be wrong. */
const PREFIX_TYPOS = 2;

/**
 * Returns whether the word begins with the prefix of all names, misspelt or not: `lifebaot.volumes`, `life-boat.keep`.
 */
export function hasLikePrefix(word: string): boolean {
  return core(word) !== word.toLowerCase();
}

/** Removes the prefix that all names share, which would make short names similar. */
function core(word: string): string {
  const lower = word.toLowerCase();
  const [, prefix = '', rest = ''] =
    /^([a-z]+(?:[-_][a-z]+)?)\.(.+)$/.exec(lower) ?? /^([a-z]+)[-_](.+)$/.exec(lower) ?? [];
  const letters = prefix.replace(/[-_]/, '');
  if (letters === PREFIX) return rest;
  const isLike = Math.abs(letters.length - PREFIX.length) <= PREFIX_TYPOS && distance(letters, PREFIX) <= PREFIX_TYPOS;
  return isLike ? rest : lower;
}

/** Words that other programs use, squashed, and the squashed names here. */
const SYNONYMS: Readonly<Record<string, string>> = {
  ...{ enable: 'volume', enabled: 'volume', backup: 'volume', mount: 'volume', path: 'volume' },
  ...{ db: 'postgre', pg: 'postgre', postgresql: 'postgre', pgdump: 'postgre' },
  ...{ cron: 'schedule', cronexpression: 'schedule', cronschedule: 'schedule', interval: 'schedule' },
  ...{ retention: 'keep', retentionday: 'keep', keepday: 'keep', keepdaily: 'keep', retain: 'keep' },
  ...{ stopduringbackup: 'stop', stopcontainer: 'stop', pre: 'execpre', post: 'execpost', archivepre: 'execpre' },
  ...{ backupdir: 'destination', bucket: 'destination', s3bucket: 'destination', repository: 'destination' },
  ...{ slack: 'slackwebhookurl', healthcheck: 'healthcheckurl', webhook: 'webhookurl', timezone: 'tz' },
};

/** Longest input that is compared. Longer input is no typo of a name. */
const MAX_LENGTH = 80;

/**
 * Returns the candidate that `word` most likely means, or undefined if none is similar. A candidate is similar if it
 * differs only in case, separators and plurals, or in a few characters, or if `word` is its last part
 * (`lifeboat.databases`), or another word for it (`lifeboat.cron`).
 */
export function suggest(word: string, candidates: Iterable<string>): string | undefined {
  const wanted = core(word);
  if (wanted === '' || wanted.length > MAX_LENGTH) return undefined;
  const all = Array.from(candidates, (candidate) => ({ candidate, name: core(candidate) }));
  const squashed = squash(wanted);
  const meant = Object.hasOwn(SYNONYMS, squashed) ? SYNONYMS[squashed] : squashed;
  const same = all.find(({ name }) => squash(name) === meant);
  if (same) return same.candidate;
  let best: string | undefined;
  let least = Math.min(3, Math.ceil(wanted.length / 4)) + 1;
  for (const { candidate, name } of all) {
    // Each character of difference in length is an insertion or a deletion.
    if (Math.abs(name.length - wanted.length) >= least) continue;
    const far = distance(wanted, name);
    if (far < least) [best, least] = [candidate, far];
  }
  return best ?? all.find(({ name }) => endsWithPart(name, wanted))?.candidate;
}

function endsWithPart(candidate: string, word: string): boolean {
  const before = candidate.slice(0, -word.length);
  return candidate.endsWith(word) && /[^a-z0-9]$/.test(before);
}

/** Returns the hint `did you mean X?`, or undefined if nothing is similar. */
export function didYouMean(word: string, candidates: Iterable<string>): string | undefined {
  const found = suggest(word, candidates);
  return found === undefined ? undefined : `did you mean ${found}?`;
}

/**
 * Returns the hint for words that name no source: what they may mean, and the names. `db` means `db.postgres`.
 *
 * @param names at least one
 */
export function sourcesHint(words: readonly string[], names: readonly string[]): string {
  const sorted = names.toSorted();
  const meant = words.map((word) => begunBy(word, sorted) ?? suggest(word, sorted));
  const found = [...new Set(meant.filter((one) => one !== undefined))];
  return `${found.length > 0 ? `Did you mean ${found.join(', ')}? ` : ''}The sources are: ${sorted.join(', ')}.`;
}

/** Returns the shortest name that begins with a word and a dot. */
function begunBy(word: string, names: readonly string[]): string | undefined {
  return names.filter((name) => name.startsWith(`${word}.`)).sort((a, b) => a.length - b.length)[0];
}
