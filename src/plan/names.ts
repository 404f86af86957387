/**
 * Parts of source names appear in object names, so they must be safe in paths and URLs. This limits their length,
 * characters.
 */
const MAX_LENGTH = 48;

/**
 * Turns any text into a part of a source name: `[a-z0-9][a-z0-9_-]*`, at most 48 characters. `exact` is false if the
 * slug differs from the text, so that another text may have the same slug.
 */
export function slugOf(text: string): { slug: string; exact: boolean } {
  const slug = text
    .toLowerCase()
    .replace(/[^a-z0-9_-]+/g, '-')
    .replace(/^[-_]+|[-_]+$/g, '');
  if (slug === '' || slug.length > MAX_LENGTH) {
    return { slug: `${slug.slice(0, MAX_LENGTH - 7) || 'x'}-${shortHash(text)}`, exact: false };
  }
  return { slug, exact: slug === text };
}

/**
 * Gives each text a unique slug. If several texts have the same slug, those that differ from it get a hash of their
 * text. A text that equals its slug keeps it, so its name never depends on its neighbours.
 */
export function uniqueSlugs(texts: Iterable<string>): Map<string, string> {
  const slugs = [...new Set(texts)].map((text) => ({ text, ...slugOf(text) }));
  const counts = new Map<string, number>();
  for (const { slug } of slugs) counts.set(slug, (counts.get(slug) ?? 0) + 1);
  return new Map(
    slugs.map(({ text, slug, exact }) => {
      const alone = exact || counts.get(slug) === 1;
      return [text, alone ? slug : `${slug.slice(0, MAX_LENGTH - 7)}-${shortHash(text)}`];
    }),
  );
}

/** A name that needs no quotes in a shell. A name from a label can be any text. */
const PLAIN = /^\w[\w.-]*$/;

/**
 * Returns the command that starts a container, as a user types it: `docker compose start db`.
 *
 * @param ownProject the project of the agent, whose Compose file is the one at hand
 */
export function startCommand(
  { name, project, service }: { name: string; project: string; service: string },
  ownProject: string,
): string {
  if (!PLAIN.test(project) || !PLAIN.test(service)) return `docker start ${name}`;
  return `docker compose ${project === ownProject ? '' : `--project-name ${project} `}start ${service}`;
}

/** Hashes a text into six characters (FNV-1a). The hash distinguishes texts and is not cryptographic. */
function shortHash(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash.toString(36).padStart(7, '0').slice(-6);
}
