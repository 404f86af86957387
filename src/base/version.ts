import description from '../../package.json' with { type: 'json' };

/** The version of Lifeboat, as its package says. The bundle holds a copy of that file. */
export function readVersion(): string {
  return description.version;
}
