import type { Command } from 'commander';
import { LifeboatError } from '../base/errors.ts';

/** Scripts that complete the command line in a shell, made from the definitions of the commands. */

/** A word that can come next, with its description. */
interface Word {
  text: string;
  about: string;
}

/** The words that can follow a command. */
interface Place {
  /** the names of the commands so far: empty, `restore`, `bucket setup` */
  at: string;
  /** the commands below it */
  commands: Word[];
  /** its options, and words that stand for an operand */
  words: Word[];
  /** whether an operand is the name of a source */
  sources: boolean;
  /** the options that take a value, with the values to choose from */
  values: { option: string; choices: readonly string[] }[];
}

const SCRIPTS: Readonly<Record<string, (places: readonly Place[]) => string>> = { bash, zsh, fish };

/** Returns the completion script for a shell. @throws USAGE for an unknown shell */
export function completionScript(program: Command, shell: string): string {
  const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
  if (script) return script(placesOf(program, []));
  throw new LifeboatError('USAGE', `there is no completion for ${shell}`, {
    hint: `The shells are ${Object.keys(SCRIPTS).join(', ')}.`,
  });
}

function placesOf(command: Command, names: readonly string[]): Place[] {
  const help = command.createHelp();
  const below = help.visibleCommands(command);
  const options = help.visibleOptions(command);
  const flags = (option: (typeof options)[number]) =>
    [option.long, option.short].filter((flag): flag is string => flag != null);
  const operands = command.registeredArguments.flatMap((one) => OPERANDS[one.name()] ?? []);
  const place: Place = {
    at: names.join(' '),
    commands: below.map((one) => ({ text: one.name(), about: one.description() })),
    sources: command.registeredArguments.some((one) => OF_SOURCES.has(one.name())),
    words: [
      ...operands,
      ...options.flatMap((option) => flags(option).map((text) => ({ text, about: option.description }))),
    ],
    values: options
      .filter((option) => option.required)
      .flatMap((option) => flags(option).map((flag) => ({ option: flag, choices: option.argChoices ?? [] }))),
  };
  return [
    place,
    ...below.filter((one) => one.name() !== 'help').flatMap((one) => placesOf(one, [...names, one.name()])),
  ];
}

/** The operands that name sources. */
const OF_SOURCES = new Set(['source', 'name']);

/** Prints the names of the sources, for all shells. It fails in silence where no project is. */
const NAMES = 'lifeboat source-names </dev/null 2>/dev/null';

/** Words that can stand for an operand. */
const OPERANDS: Readonly<Record<string, Word[]>> = {
  snapshot: [{ text: 'latest', about: 'the newest snapshot' }],
  shell: ['bash', 'zsh', 'fish'].map((text) => ({ text, about: '' })),
};

/** The cases of a shell that find the place of the cursor: from the place so far and the next word. */
function steps(places: readonly Place[]): { from: string; word: string; to: string }[] {
  return places.flatMap(({ at, commands }) =>
    commands.map(({ text }) => ({ from: at, word: text, to: at === '' ? text : `${at} ${text}` })),
  );
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function bash(places: readonly Place[]): string {
  const values = places.flatMap(({ at, values: all }) =>
    all.map(
      ({ option, choices }) => `    ${quoted(`${at}|${option}`)}) sources= words=${quoted(choices.join(' '))} ;;`,
    ),
  );
  return `# bash completion for lifeboat
_lifeboat() {
  local current=\${COMP_WORDS[COMP_CWORD]} place= words= sources= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$place|\${COMP_WORDS[i]}" in
${steps(places)
  .map(({ from, word, to }) => `      ${quoted(`${from}|${word}`)}) place=${quoted(to)} ;;`)
  .join('\n')}
    esac
  done
  case "$place" in
${places
  .map(({ at, commands, words, sources }) => {
    const all = [...commands, ...words].map(({ text }) => text).join(' ');
    return `    ${quoted(at)}) words=${quoted(all)}${sources ? ' sources=1' : ''} ;;`;
  })
  .join('\n')}
  esac
  case "$place|\${COMP_WORDS[COMP_CWORD - 1]}" in
${values.join('\n')}
  esac
  if [[ $sources && $current != -* ]]; then words+=" $(${NAMES})"; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -F _lifeboat lifeboat
`;
}

function zsh(places: readonly Place[]): string {
  const entry = ({ text, about }: Word) => quoted(`${text.replaceAll(':', '\\:')}:${about}`);
  const values = places.flatMap(({ at, values: all }) =>
    all.map(
      ({ option, choices }) =>
        `    ${quoted(`${at}|${option}`)}) entries=(${choices.map(quoted).join(' ')}) sources= ;;`,
    ),
  );
  return `#compdef lifeboat
# zsh completion for lifeboat
_lifeboat() {
  local place= sources= i
  local -a entries
  for ((i = 2; i < CURRENT; i++)); do
    case "$place|\${words[i]}" in
${steps(places)
  .map(({ from, word, to }) => `      (${quoted(`${from}|${word}`)}) place=${quoted(to)} ;;`)
  .join('\n')}
    esac
  done
  case "$place" in
${places
  .map(({ at, commands, words, sources }) => {
    const all = [...commands, ...words].map(entry).join(' ');
    return `    (${quoted(at)}) entries=(${all})${sources ? ' sources=1' : ''} ;;`;
  })
  .join('\n')}
  esac
  case "$place|\${words[CURRENT-1]}" in
${values.map((line) => line.replace(/^ {4}/, '    (')).join('\n')}
  esac
  if [[ -n $sources && \${words[CURRENT]} != -* ]]; then entries+=(\${(f)"$(${NAMES})"}); fi
  _describe lifeboat entries
}
if [ "$funcstack[1]" = _lifeboat ]; then _lifeboat "$@"; else compdef _lifeboat lifeboat; fi
`;
}

function fish(places: readonly Place[]): string {
  const text = (value: string) => `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const lines = places.flatMap(({ at, commands, words, values, sources }) => {
    const when = `complete -c lifeboat -n ${text(`__lifeboat_at ${text(at)}`)}`;
    const plain = words.filter((word) => !word.text.startsWith('-'));
    const options = words.filter((word) => word.text.startsWith('-'));
    return [
      ...(sources ? [`${when} -a ${text(`(${NAMES})`)}`] : []),
      ...[...commands, ...plain].map((word) => `${when} -a ${text(word.text)} -d ${text(word.about)}`),
      ...options.map((word) => {
        const name = word.text.replace(/^--?/, '');
        const value = values.find(({ option }) => option === word.text);
        const needs = value ? ` -x -a ${text(value.choices.join(' '))}` : '';
        return `${when} ${word.text.startsWith('--') ? '-l' : '-s'} ${text(name)}${needs} -d ${text(word.about)}`;
      }),
    ];
  });
  return `# fish completion for lifeboat
function __lifeboat_place
    set -l place ''
    for word in (commandline -opc)[2..-1]
        switch "$place|$word"
${steps(places)
  .map(({ from, word, to }) => `            case ${text(`${from}|${word}`)}\n                set place ${text(to)}`)
  .join('\n')}
        end
    end
    echo "$place"
end
function __lifeboat_at
    test (__lifeboat_place) = "$argv[1]"
end
complete -c lifeboat -f
${lines.join('\n')}
`;
}
