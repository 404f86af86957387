import type { PlannedSource } from '../plan/model.ts';
import { plural } from '../report/format.ts';
import { MAX_RECORD } from '../store/objects/bounds.ts';
import { tooLarge } from '../store/objects/documents.ts';
import { canonicalJson, type ManifestSource } from '../store/objects/manifest.ts';
import type { Capturer } from './context.ts';
import type { Captured } from './outcome.ts';

/** The largest size of a manifest's sources, bytes. The rest of a manifest is small. */
const LONGEST = MAX_RECORD - 64 * 1024;
/** Lengths of texts that were shortened, in UTF-16 units, and the number of warnings that stay. */
const SHORT_MESSAGE = 100;
const SHORT_WARNING = 1000;
const FEW_WARNINGS = 100;

/**
 * Each step shortens the entry of a source, the least important texts first. The data of a source matters more than its
 * texts.
 */
const STEPS: readonly ((entry: ManifestSource) => ManifestSource)[] = [
  (entry) => withErrors(entry, (message) => message),
  (entry) => withErrors(entry, (message) => cut(message, SHORT_MESSAGE)),
  withFewWarnings,
];

/**
 * Makes the manifest small enough to be read back. A manifest says of each database whether it was stored, and why not:
 * of thousands of failed ones, these texts are shortened first. If that is not enough, fails sources with
 * SNAPSHOT_TOO_LARGE, the largest first.
 *
 * @param longest the largest size of all sources together, bytes
 */
export async function fitManifest(
  capturer: Pick<Capturer, 'failed'>,
  captured: Captured[],
  longest = LONGEST,
): Promise<void> {
  const sizes = captured.map(({ entry }) => sizeOf(entry));
  const isTooLarge = () => sizes.reduce((sum, size) => sum + size, 0) > longest;
  const largestFirst = sizes.map((_, i) => i).sort((a, b) => (sizes[b] as number) - (sizes[a] as number));
  for (const shorten of STEPS) {
    for (const i of largestFirst) {
      if (!isTooLarge()) return;
      const one = captured[i] as Captured;
      captured[i] = { ...one, entry: shorten(one.entry) };
      sizes[i] = sizeOf((captured[i] as Captured).entry);
    }
  }
  while (isTooLarge()) {
    const size = Math.max(...sizes);
    const i = sizes.indexOf(size);
    const { name, kind } = (captured[i] as Captured).report;
    const error = tooLarge(`what the manifest says of ${name}`, size, longest);
    captured[i] = await capturer.failed({ name, kind: kind as PlannedSource['kind'] }, error);
    sizes[i] = 0;
  }
}

function sizeOf(entry: ManifestSource): number {
  return Buffer.byteLength(canonicalJson(entry));
}

/** Returns the entry of a source with only the codes and messages of its databases' errors. */
function withErrors(entry: ManifestSource, shorten: (message: string) => string): ManifestSource {
  if (!entry.databases) return entry;
  const databases = entry.databases.map((one) => {
    if (!one.error) return one;
    const { code, message } = one.error;
    return { ...one, error: { code, message: shorten(message) } };
  });
  return { ...entry, databases };
}

function withFewWarnings(entry: ManifestSource): ManifestSource {
  const { warnings } = entry;
  const some = warnings.slice(0, FEW_WARNINGS).map((text) => cut(text, SHORT_WARNING));
  const left = warnings.length - some.length;
  return { ...entry, warnings: left > 0 ? [...some, `${plural(left, 'more warning')} left out`] : some };
}

function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}
