import { PassThrough } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { compare } from '../docker/demo/fingerprint.ts';
import { addressOf, waitForEnter } from '../docker/demo/page.ts';
import { slackText } from '../docker/demo/receiver-log.ts';

describe("the demo's comparison", () => {
  const before = new Map([
    ['orders', '2 rows, md5 aa'],
    ['lines', '3 rows, md5 bb'],
  ]);

  test('is equal only if every part is', () => {
    expect(compare(before, new Map(before)).equal).toBe(true);
    const changed = compare(before, new Map([...before, ['lines', '3 rows, md5 cc']]));
    expect(changed.equal).toBe(false);
    expect(changed.lines).toEqual([
      'orders  2 rows, md5 aa  equal',
      'lines   3 rows, md5 bb  NOT EQUAL',
      '        3 rows, md5 cc',
    ]);
  });

  test('sees what is missing and what is too much', () => {
    expect(compare(before, new Map([['orders', '2 rows, md5 aa']])).equal).toBe(false);
    expect(compare(new Map([['orders', '2 rows, md5 aa']]), before).equal).toBe(false);
  });

  test('nothing is not equal to nothing', () => {
    expect(compare(new Map(), new Map()).equal).toBe(false);
  });
});

describe('the page of the demo', () => {
  test.each([
    ['127.0.0.1:49153\n', 'http://127.0.0.1:49153/'],
    ['0.0.0.0:49153', 'http://127.0.0.1:49153/'],
    [':0\n', undefined],
    ['', undefined],
  ])('%j is at %s', (published, expected) => {
    expect(addressOf(published)).toBe(expected);
  });

  test('stays until Enter, the end of the input, or the end of the demo', async () => {
    const ends = {
      enter: (input: PassThrough) => input.write('\n'),
      'end of the input': (input: PassThrough) => input.end(),
      'end of the demo': (_: PassThrough, stop: AbortController) => stop.abort(new Error('stopped')),
    };
    for (const end of Object.values(ends)) {
      const [input, stop] = [new PassThrough(), new AbortController()];
      let isOver = false;
      const waited = waitForEnter(input, stop.signal).then(() => (isOver = true));
      await new Promise((resolve) => setTimeout(resolve, 10));
      expect(isOver).toBe(false);
      end(input, stop);
      await waited;
    }
  });
});

test('the text of a Slack message is that of its blocks, else the fallback', () => {
  const blocks = [{ text: { text: '*ok*' } }, { elements: [{ text: 'a' }, { text: 'b' }] }];
  expect(slackText(JSON.stringify({ text: 'short', blocks }))).toBe('*ok*\na\nb');
  expect(slackText(JSON.stringify({ text: 'short' }))).toBe('short');
});
