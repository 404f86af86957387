import type { Command } from 'commander';
import type { Io } from './call.ts';
import { run } from './run.ts';

/** How commands are added: each takes `--json` and shows one example. */
export interface Builder {
  program: Command;
  /** Adds a command to the program, or to `parent`. */
  command(usage: string, description: string, example: string, parent?: Command): Command;
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

export function createBuilder(program: Command, io: Io, done: (status: number) => void): Builder {
  return {
    program,
    command: (usage, description, example, parent = program) =>
      parent
        .command(usage)
        .description(description)
        .helpOption('-h, --help', 'print help')
        .option('--json', 'print one JSON document to stdout, and logs to stderr')
        .addHelpText('after', `\nExample:\n  docker compose exec lifeboat lifeboat ${example}`),
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
