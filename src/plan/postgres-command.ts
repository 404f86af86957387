/** What the command line of a Postgres container says of its server (Postgres docs, "postgres" and 19.1.4). */
interface CommandFacts {
  port?: number;
  /** `-D` */
  directory?: string;
  /** where the data are when the configuration lies elsewhere */
  dataDirectory?: string;
  configFile?: string;
}

/**
 * Reads the options of `postgres` out of a container's command line, whatever entry point or shell stands in front of them. The
 * last of several wins, as it does for the server.
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

/** A TCP port; undefined for a text that is none. */
export function readPort(text: string | undefined): number | undefined {
  const port = Number(text || Number.NaN);
  return Number.isInteger(port) && port > 0 && port < 65_536 ? port : undefined;
}

function assign(settings: Map<string, string>, text: string): void {
  const [, name, value] = /^([\w-]+)\s*=\s*(.*)$/s.exec(text) ?? [];
  // `--data-directory` is `data_directory`; -D is `directory` here, which is no setting of Postgres.
  const setting = name?.toLowerCase().replaceAll('-', '_');
  if (setting !== undefined && setting !== 'directory') settings.set(setting, unquote(value ?? ''));
}

/** A shell gets a whole line as one argument. */
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
