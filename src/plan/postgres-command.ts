/** Options of a Postgres server on the command line of its container (Postgres docs, "postgres" and 19.1.4). */
interface CommandFacts {
  port?: number;
  /** `-D` */
  directory?: string;
  /** directory of the data, if the configuration is elsewhere */
  dataDirectory?: string;
  configFile?: string;
}

/**
 * Reads the options of `postgres` from a container's command line, after any entry point or shell. If an option is
 * repeated, the last one wins, as for the server.
 */
export function readPostgresCommand(command: readonly string[]): CommandFacts {
  const settings = new Map<string, string>();
  const words = wordsOf(command);
  for (let i = 0; i < words.length; i++) {
    const [, option, attached] = /^-([pDc])(.*)$/s.exec(words[i] as string) ?? [];
    if (option !== undefined) {
      const value = attached || (words[++i] ?? '');
      if (option === 'c') assign(settings, value);
      else settings.set(option === 'p' ? 'port' : 'directory', value);
    } else if (/^--[a-z]/i.test(words[i] as string)) assign(settings, (words[i] as string).slice(2));
  }
  const port = readPort(settings.get('port'));
  const [directory, dataDirectory, configFile] = ['directory', 'data_directory', 'config_file'].map((name) =>
    settings.get(name),
  );
  return {
    ...(port === undefined ? {} : { port }),
    ...(directory ? { directory } : {}),
    ...(dataDirectory ? { dataDirectory } : {}),
    ...(configFile ? { configFile } : {}),
  };
}

/** Parses a TCP port; returns undefined for any other text. */
export function readPort(text: string | undefined): number | undefined {
  const port = Number(text || Number.NaN);
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined;
}

function assign(settings: Map<string, string>, text: string): void {
  const [, name, value] = /^([\w-]+)\s*=\s*(.*)$/s.exec(text) ?? [];
  // `--data-directory` is `data_directory`. `directory` stands for -D here and is no setting of Postgres.
  const setting = name?.toLowerCase().replaceAll('-', '_');
  if (setting !== undefined && setting !== 'directory') settings.set(setting, unquote(value ?? ''));
}

/** Splits a command line into words: the argument of a shell holds a whole line. */
function wordsOf(command: readonly string[]): string[] {
  const shell = command.findIndex((word) => /^(.*\/)?(ba|da|a|z|k)?sh$/.test(word));
  return command.flatMap((word, i) =>
    shell >= 0 && i > shell && /\s/.test(word)
      ? (word.match(/"[^"]*"|'[^']*'|[^\s"';&|]+/g) ?? []).map(unquote)
      : [word],
  );
}

function unquote(text: string): string {
  return /^(["']).*\1$/s.test(text) ? text.slice(1, -1) : text;
}
