/** What a source's own documents in a snapshot are called, behind the source's name and before the suffixes of sealing. */
const DOCUMENTS = ['facts.json', 'index.ndjson'];

/**
 * The objects among `keys` that a run stored for one source. The name of one source may begin like that of another
 * (`web.media` and, of a project `web`, `web.media.postgres`), so names are compared whole.
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
