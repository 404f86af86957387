/**
 * The names of a source's documents in a snapshot, between the source's name and the suffixes of compression and
 * encryption.
 */
const DOCUMENTS = ['facts.json', 'index.ndjson', 'packs.ndjson'];

/**
 * Returns the keys of the objects that a run stored for one source. One source's name may be a prefix of another's
 * (`web.media` and `web.media.postgres`), so whole names are compared.
 */
export function objectsOfSource(
  keys: readonly string[],
  { project, run, source }: { project: string; run: string; source: string },
): string[] {
  const packs = `${project}/packs/${source}/`;
  const documents = DOCUMENTS.map((name) => `${project}/snapshots/${run}/${source}.${name}`);
  return keys.filter(
    (key) =>
      key.startsWith(packs) ||
      documents.some((name) => key.startsWith(name) && /^(\.(zst|age|gpg))*$/.test(key.slice(name.length))),
  );
}
