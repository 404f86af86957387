import type { Command } from 'commander';
import type { Io } from './call.ts';
import { run } from './run.ts';

/** The help texts of the operands, by name, or by command and name. */
const OPERANDS: Readonly<Record<string, string>> = {
  snapshot: '`latest`, an id from `snapshots`, or the start of an id',
  source: 'a name from `plan`, such as db.postgres',
  'accept name': 'a source or a copy, as `status` names it, or the word `destination`',
  path: 'a path, a directory or a glob in the source',
  restore: 'an id from `status`, or the start of one (default: the newest restore)',
  'drills id': 'an id from `drills`, or the start of one',
  file: 'a path in the Lifeboat container, or - for stdin',
  shell: 'bash, zsh or fish',
};

/** The way to add commands: each takes `--json` and shows one example. */
export interface Builder {
  program: Command;
  /** Adds a command to the program, or to `parent`. An example that begins with `docker` is a whole command line. */
  command(usage: string, description: string, examples: string | string[], parent?: Command): Command;
  /** Adds a command that only has commands of its own. */
  group(name: string, description: string): Command;
  /** Adds the options that select another repository to read from. */
  reading(command: Command): Command;
  act(name: string): (...args: unknown[]) => Promise<void>;
}

/** A command with its operands in the list of commands: `show <snapshot> [source] [path]`, without `[options]`. */
export function termOf(command: Command): string {
  const operands = command.registeredArguments.map((one) => {
    const name = `${one.name()}${one.variadic ? '...' : ''}`;
    return one.required ? `<${name}>` : `[${name}]`;
  });
  return [command.name(), ...operands].join(' ');
}

function exampleText(examples: readonly string[]): string {
  const lines = examples.map((example) => {
    if (example.startsWith('docker ')) return `  ${example}`;
    // Without -T, Compose opens a terminal, which would change the bytes of an archive.
    const exec = /[<>]/.test(example) ? 'exec -T' : 'exec';
    return `  docker compose ${exec} lifeboat lifeboat ${example}`;
  });
  return `\n${lines.length > 1 ? 'Examples' : 'Example'}:\n${lines.join('\n')}`;
}

export function createBuilder(program: Command, io: Io, done: (status: number) => void): Builder {
  return {
    program,
    command: (usage, description, examples, parent = program) => {
      const command = parent.command(usage);
      for (const operand of command.registeredArguments) {
        const name = operand.name();
        operand.description = OPERANDS[`${command.name()} ${name}`] ?? OPERANDS[name] ?? '';
      }
      return command
        .description(description)
        .helpOption('-h, --help', 'print help')
        .option('--json', 'print one JSON document to stdout, and logs to stderr')
        .addHelpText('after', exampleText([examples].flat()));
    },
    group: (name, description) =>
      program
        .command(name)
        .description(description)
        .helpOption('-h, --help', 'print help')
        .helpCommand('help [command]', 'Print help for a command'),
    reading: (command) =>
      command
        .option('--from <location>', 'read from another place: a copy (name or number), a directory, or s3://…')
        .option('--project <name>', 'with --from: select a Compose project if the place holds several'),
    act:
      (name) =>
      async (...args) => {
        // Commander passes the operands, then the options and the command itself.
        const options = args.at(-2) as Record<string, unknown>;
        done(await run(name, args.slice(0, -2) as (string | string[] | undefined)[], options, io));
      },
  };
}
