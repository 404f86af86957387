/** Every part of a source name is part of object names in a repository: it must be safe in a path and in a URL. */
const MAX_LENGTH = 48;

/**
 * Turns any text into a part of a source name: `[a-z0-9][a-z0-9_-]*`, at most 48 characters. `exact` is false when the
 * slug is not the text itself, so that another text may have the same slug.
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
 * Gives each text a slug of its own. Where several have the same slug, those that are not spelt like it get a hash of
 * their text; a text that is its own slug keeps it, so that its name never depends on its neighbours.
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

/** FNV-1a, as six characters: tells texts apart, hides nothing. */
function shortHash(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash.toString(36).padStart(7, '0').slice(-6);
}
