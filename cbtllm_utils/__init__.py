"""The utilities under the notebooks that reproduce CBT-LLM (arXiv 2403.16008).

Modules stand on five floors and import only downwards:

5  run, pipeline, report                                             one notebook; the graph; the report page
   graph, changes, preflight, progress                               what the pipeline stands on
4  figures, pages, tables                                            draw and lay out: data in, Figure or DataFrame out
3  cbt_qa, exports, training, adapters, answering, replies, metrics, evaluation, ratings   the steps of the study
   demo_backbones, demo_scorers                                      tiny models in the original file formats
2  endpoint, backbones, tokenizers, sections, distortions, statistics, splits
   faults, spending, journal, replay                                 what the endpoint stands on
   recipe                                                            a training's settings
   jury_zh, bleurt, ngrams                                           what the metrics stand on
1  questions, prompts, instructions, published, profiles, safety, files       the data and the texts
"""

__version__ = "0.1.0"
