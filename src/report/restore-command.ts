/** The options of a command that choose the repository to read, and what to accept there. */
export interface ReadingOptions {
  /** as given with `--from`; absent: the agent's own repository */
  from?: string;
  /** as given with `--project` */
  project?: string;
  /** accept an unsigned snapshot although a signing key is set */
  unsigned?: boolean;
}

/** Returns the command that restores a source from the same repository, as a person types it. */
export function restoreCommand(reading: ReadingOptions, snapshot: string, source: string, options = ''): string {
  return `lifeboat restore ${snapshot} ${source}${options && ` ${options}`}${readingOptions(reading)}`;
}

function readingOptions({ from, project, unsigned = false }: ReadingOptions): string {
  const place = from === undefined ? '' : ` --from ${shellWord(from)}`;
  return `${place}${from === undefined || project === undefined ? '' : ` --project ${shellWord(project)}`}${unsigned ? ' --unsigned' : ''}`;
}

/** Quotes a name so that a person can paste it into a shell. */
export function shellWord(name: string): string {
  return /^[\w.,:/=@-]+$/.test(name) && !name.startsWith('-') ? name : `'${name.replaceAll("'", "'\\''")}'`;
}
