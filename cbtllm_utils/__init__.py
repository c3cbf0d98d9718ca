"""The utilities under the notebooks that reproduce CBT-LLM (arXiv 2403.16008).

Modules stand on five floors and import only from below or from their own floor, never in a circle:

5  run, pipeline, report                                             one notebook; the graph; the report page
   graph, changes, manifest, preflight, progress, readme, releases,  what the pipeline and the report stand on
   stills, verify
4  figures, charts, grids, diagrams, blocks, pages, tables           draw and lay out: data in, Figure or DataFrame out
3  cbt_qa, conformity, exports, training, trainer, parallel, watch,  the steps of the study
   adapters, adapter_card, forecast, publishing, training_log, answering, remote, sharing, replies, metrics, evaluation,
   ratings, filled_forms, agreement, blinding, forms, model_raters, annotation, annotators, case_study, audit
   demo_backbones, demo_formats, demo_pairs, demo_scorers,           tiny models in the original file formats
   demo_texts, demo_training, demo_vocabularies, workers
2  endpoint, completions, batches, batch_files, faults, spending,    asking, and what the client stands on
   journal, replay, loops
   backbones, checkpoints, fused, tokenizers,                        models from their original files
   sentencepiece_tokenizer, namings, recipe, quantization, growing_cache, sampling, batching
   sections, section_model, distortions, recognition, statistics,    reading replies, and what numbers can bear
   reliability, splits, checks, paper_numbers, jury_zh, bertscore, bleurt, kept, ngrams
1  questions, prompts, instructions, chats, published, profiles, safety, files,   the data and the texts
   hashes, spreadsheets, scratch, workbooks
"""

__version__ = "0.1.0"
