// Chinese in the search of the site, in the place of lunr-languages' file of it, which needs a dictionary that no browser
// has: Chinese has no spaces, so that every two neighbouring characters are a word, and what is typed is found as typed.
(() => {
  const RUN = /[\u3400-\u9fff]+/g;
  const pairs = run => [...run].slice(1).map((character, place) => run[place] + character);
  lunr.zh = Object.assign(() => {}, {wordCharacters: '\u3400-\u9fff'});

  const cut = lunr.tokenizer;
  // The last character alone, too: with it every character begins a word, and one typed alone is found.
  lunr.tokenizer = Object.assign((text, metadata) => cut(
    typeof text === 'string' ? text.replace(RUN, run => ` ${pairs(run).join(' ')} ${run.at(-1)} `) : text, metadata), cut);

  const search = lunr.Index.prototype.search;
  lunr.Index.prototype.search = function (query) {
    return search.call(this, query.replace(RUN, run => ` ${
      run.length > 1 ? pairs(run).map(pair => `+${pair}`).join(' ') : `+${run}*`} `));
  };
})();
